#include "container-cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cgroup.h"
#include "files.h"
#include "mounts.h"
#include "processes.h"

namespace thaw {
namespace {

// systemd's place of a slice: "a-b.slice" is "a.slice/a-b.slice". Source: systemd.slice(5).
std::string SlicePath(const std::string& slice) {
  std::string path;
  if (slice == "-.slice") return path;
  for (size_t at = slice.find('-'); at != std::string::npos; at = slice.find('-', at + 1))
    path += '/' + slice.substr(0, at) + ".slice";
  return path + '/' + slice;
}

void Write(const std::string& file, std::string_view text) {
  const UniqueFd fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.valid()) static_cast<void>(WriteAll(fd.get(), text));
}

// The directory and all below it, parents first.
void List(const std::string& directory, std::vector<std::string>* found) {
  DIR* const stream = opendir(directory.c_str());
  if (!stream) return;
  found->push_back(directory);
  while (const dirent* const entry = readdir(stream))
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') List(directory + '/' + entry->d_name, found);
  closedir(stream);
}

std::vector<pid_t> ProcessesIn(const std::string& directory) {
  std::vector<pid_t> pids;
  std::string text;
  constexpr size_t kMostBytes = 16 << 20;
  if (ReadFile(directory + "/cgroup.procs", kMostBytes, &text) != 0) return pids;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    pids.push_back(atoi(text.c_str() + at));
    if (text.find('\n', at) == std::string::npos) break;
  }
  return pids;
}

void Thaw(const std::string& directory) {
  // v1 lets a frozen process die only once it is thawed; a frozen parent keeps its children frozen.
  Write(directory + "/freezer.state", "THAWED");
  Write(directory + "/cgroup.freeze", "0");
}

void KillIn(const std::string& directory) {
  Victims victims;
  for (const pid_t pid : ProcessesIn(directory)) {
    victims.Add(pid, [&] {
      const std::vector<pid_t> now = ProcessesIn(directory);
      return std::find(now.begin(), now.end(), pid) != now.end();
    });
  }
  victims.Kill();
}

// True once nothing of it is there.
bool RemoveNow(const std::string& directory) {
  std::vector<std::string> all;
  List(directory, &all);
  for (const std::string& each : all) Thaw(each);
  for (const std::string& each : all) KillIn(each);
  bool gone = true;
  // A zombie keeps its cgroup busy until whoever adopted it has reaped it.
  for (auto each = all.rbegin(); each != all.rend(); ++each)
    gone = (rmdir(each->c_str()) == 0 || errno == ENOENT) && gone;
  return gone;
}

bool EmptyNow(const std::string& directory) {
  std::vector<std::string> all;
  List(directory, &all);
  for (const std::string& each : all) Thaw(each);
  for (const std::string& each : all) KillIn(each);
  for (const std::string& each : all)
    if (!ProcessesIn(each).empty()) return false;
  return true;
}

}  // namespace

ContainerCgroup CgroupOf(const std::string& cgroups_path, const std::string& id) {
  const size_t first = cgroups_path.find(':');
  if (first != std::string::npos) {
    // runc's form for systemd: slice:prefix:name is the scope "prefix-name.scope" in the slice.
    const size_t second = cgroups_path.find(':', first + 1);
    const std::string slice = cgroups_path.substr(0, first);
    const std::string name = second == std::string::npos ? "" : cgroups_path.substr(second + 1);
    if (name != id || slice.find('/') != std::string::npos) return {};
    const std::string scope = cgroups_path.substr(first + 1, second - first - 1) + '-' + name + ".scope";
    return {SlicePath(slice.empty() ? "system.slice" : slice) + '/' + scope, true};
  }
  const std::string path = JoinPath({cgroups_path});
  if (path.empty() || path[0] != '/' || path.substr(path.rfind('/') + 1) != id) return {};
  return {path, false};
}

Error RemoveCgroup(const ContainerCgroup& cgroup, const Deadline& deadline) {
  std::vector<std::string> left;
  for (const Hierarchy& hierarchy : Hierarchies(ReadMountinfo()))
    if (IsDirectory(hierarchy.mount + cgroup.path)) left.push_back(hierarchy.mount + cgroup.path);
  // The freezer of one hierarchy holds the processes of all.
  for (const std::string& directory : left) Thaw(directory);
  for (int pause = 1; !left.empty(); pause = std::min(pause * 2, 20)) {
    const auto done = [&](const std::string& each) { return cgroup.systemd ? EmptyNow(each) : RemoveNow(each); };
    left.erase(std::remove_if(left.begin(), left.end(), done), left.end());
    if (left.empty()) break;
    if (deadline.over()) return Cannot("remove the cgroup", left.front(), EBUSY);
    SleepMs(pause);
  }
  return {};
}

}  // namespace thaw
