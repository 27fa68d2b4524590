#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "../fd.h"

namespace thaw {
namespace {

// Names in a directory, without "." and "..".
int ListNames(int directory, std::vector<std::string>* names) {
  // A descriptor of its own: closedir(3) closes it.
  const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return errno;
  DIR* const stream = fdopendir(copy);
  if (!stream) {
    const int error = errno;
    close(copy);
    return error;
  }
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(stream);
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names->emplace_back(name);
  }
  const int error = errno;
  closedir(stream);
  return error;
}

int RemoveEntry(int parent, const char* name, dev_t device, int depth) {
  // Safe: relative to an open directory and never through a link, so a name swapped meanwhile leads nowhere else.
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  constexpr int kMostDepth = 200;
  if (depth > kMostDepth) return ELOOP;
  const UniqueFd directory(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.valid()) return errno == ENOENT ? 0 : errno;
  struct stat info {};
  if (fstat(directory.get(), &info) != 0) return errno;
  if (info.st_dev != device) return EXDEV;
  std::vector<std::string> names;
  if (const int error = ListNames(directory.get(), &names)) return error;
  for (const std::string& child : names)
    if (const int error = RemoveEntry(directory.get(), child.c_str(), device, depth + 1)) return error;
  return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : errno;
}

}  // namespace

std::string JoinPath(std::initializer_list<std::string_view> parts) {
  std::string joined;
  for (const std::string_view part : parts) {
    if (part.empty()) continue;
    if (!joined.empty()) joined += '/';
    joined += part;
  }
  const bool rooted = !joined.empty() && joined[0] == '/';
  std::vector<std::string_view> names;
  for (size_t at = 0; at < joined.size();) {
    const size_t end = std::min(joined.find('/', at), joined.size());
    const std::string_view name(joined.data() + at, end - at);
    at = end + 1;
    if (name.empty() || name == ".") continue;
    if (name != "..") names.push_back(name);
    else if (!names.empty() && names.back() != "..") names.pop_back();
    else if (!rooted) names.push_back(name);
  }
  std::string clean = rooted ? "/" : "";
  for (const std::string_view name : names) {
    if (!clean.empty() && clean.back() != '/') clean += '/';
    clean += name;
  }
  return clean.empty() && !joined.empty() ? "." : clean;
}

std::string ParentPath(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

std::string RealPath(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) ? real : std::string();
}

int ReadAll(int fd, size_t limit, std::string* content) {
  content->clear();
  for (size_t used = 0;;) {
    // Most files here have a line or two.
    content->resize(used + (used < 4096 ? 4096 : used));
    const ssize_t count = read(fd, content->data() + used, content->size() - used);
    if (count < 0 && errno == EINTR) continue;
    const int error = count < 0 ? errno : 0;
    used += count > 0 ? static_cast<size_t>(count) : 0;
    content->resize(used);
    if (count <= 0) return error;
    if (used > limit) return EFBIG;
  }
}

int ReadFile(const std::string& path, size_t limit, std::string* content) {
  // O_NONBLOCK: a fifo by that name must not hold us up.
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return errno;
  return ReadAll(file.get(), limit, content);
}

int WriteAll(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t count = write(fd, content.data(), content.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    content.remove_prefix(static_cast<size_t>(count));
  }
  return 0;
}

Error ReplaceFile(const std::string& directory, const std::string& name, std::string_view content) {
  const std::string temporary = JoinPath({directory, "." + name});
  const std::string path = JoinPath({directory, name});
  unlink(temporary.c_str());
  // O_EXCL follows no link that somebody put there.
  UniqueFd file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return Cannot("make", temporary, errno);
  int error = WriteAll(file.get(), content);
  if (error == 0 && fsync(file.get()) != 0) error = errno;
  if (error == 0 && rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return {};
  unlink(temporary.c_str());
  return Cannot("write", path, error);
}

Error MakeDirectories(const std::string& path, unsigned mode) {
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return {};
  const std::string parent = ParentPath(path);
  if (errno != ENOENT || parent == path) return Cannot("make the directory", path, errno);
  if (Error error = MakeDirectories(parent, mode)) return error;
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return {};
  return Cannot("make the directory", path, errno);
}

Error RemoveTree(const std::string& path) {
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return errno == ENOENT ? Error() : Cannot("remove", path, errno);
  if (const int error = RemoveEntry(AT_FDCWD, path.c_str(), info.st_dev, 0)) return Cannot("remove", path, error);
  return {};
}

bool IsDirectory(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace thaw
