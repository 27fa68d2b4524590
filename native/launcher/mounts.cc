#include "mounts.h"

#include <errno.h>
#include <sys/mount.h>

#include "files.h"

namespace thaw {
namespace {

// Octal escapes of white space and backslashes.
std::string Unescape(std::string_view text) {
  std::string plain;
  const auto digit = [text](size_t at) { return text[at] >= '0' && text[at] <= '7'; };
  for (size_t at = 0; at < text.size(); at++) {
    if (text[at] == '\\' && at + 3 < text.size() && digit(at + 1) && digit(at + 2) && digit(at + 3)) {
      plain += static_cast<char>((text[at + 1] - '0') << 6 | (text[at + 2] - '0') << 3 | (text[at + 3] - '0'));
      at += 3;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

std::string_view NextField(std::string_view* line) {
  const std::string_view field = line->substr(0, line->find(' '));
  line->remove_prefix(std::min(field.size() + 1, line->size()));
  return field;
}

// 0, or an errno; what is not mounted is done.
int Unmount(const std::string& path, int flags) {
  // Safe: never follows a link at the end of the path.
  if (umount2(path.c_str(), flags | UMOUNT_NOFOLLOW) == 0) return 0;
  return errno == EINVAL || errno == ENOENT ? 0 : errno;
}

int UnmountBusy(const std::string& path, const Deadline& deadline) {
  for (int attempt = 0; attempt < 5 && !deadline.over(); attempt++) {
    const int error = Unmount(path, 0);
    if (error != EBUSY) return error;
    SleepMs(20);
  }
  // A process that is just ending may still be in there; the mount goes when it does.
  return Unmount(path, MNT_DETACH);
}

}  // namespace

std::vector<MountPoint> ParseMountinfo(std::string_view mountinfo) {
  std::vector<MountPoint> points;
  while (!mountinfo.empty()) {
    std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
    mountinfo.remove_prefix(std::min(line.size() + 1, mountinfo.size()));
    const size_t separator = line.find(" - ");
    if (separator == std::string_view::npos) continue;
    std::string_view behind = line.substr(separator + 3);
    line = line.substr(0, separator);
    for (int skipped = 0; skipped < 4; skipped++) NextField(&line);
    points.push_back({Unescape(NextField(&line)), std::string(NextField(&behind))});
  }
  return points;
}

std::string ReadMountinfo() {
  std::string text;
  constexpr size_t kMostBytes = 256 << 20;
  if (ReadFile("/proc/self/mountinfo", kMostBytes, &text) != 0) text.clear();
  return text;
}

bool UnmountTop(const std::string& path) {
  // Several mounts may lie on each other; EINVAL is the answer for what is no mount point.
  while (umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0) continue;
  return errno == EINVAL || errno == ENOENT || errno == ENOTDIR;
}

Error UnmountAll(const std::string& path, const Deadline& deadline) {
  // mountinfo has real paths.
  const std::string parent = RealPath(ParentPath(path));
  if (parent.empty()) return {};
  const std::string root = JoinPath({parent, path.substr(path.rfind('/') + 1)});
  const std::vector<MountPoint> points = ParseMountinfo(ReadMountinfo());
  Error failed;
  for (auto point = points.rbegin(); point != points.rend(); ++point) {
    if (point->path != root && point->path.rfind(root + '/', 0) != 0) continue;
    if (const int error = UnmountBusy(point->path, deadline)) failed = Cannot("unmount", point->path, error);
  }
  return failed;
}

}  // namespace thaw
