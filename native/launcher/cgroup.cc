#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>

#include "files.h"
#include "mounts.h"

namespace thaw {

std::vector<Hierarchy> Hierarchies(std::string_view mountinfo) {
  std::vector<Hierarchy> hierarchies;
  for (MountPoint& point : ParseMountinfo(mountinfo)) {
    if (point.type == "cgroup") hierarchies.push_back({std::move(point.path), false});
    else if (point.type == "cgroup2") hierarchies.push_back({std::move(point.path), true});
  }
  return hierarchies;
}

Error OpenCgroup(const std::string& path, std::vector<UniqueFd>* joins) {
  const std::vector<Hierarchy> hierarchies = Hierarchies(ReadMountinfo());
  bool v1 = false;
  for (const Hierarchy& hierarchy : hierarchies) v1 = v1 || !hierarchy.unified;
  for (const Hierarchy& hierarchy : hierarchies) {
    // Where both are mounted (hybrid) the controllers are v1's.
    if (v1 && hierarchy.unified) continue;
    // Cleaned as a rooted path, so that it cannot lead out of the hierarchy.
    const std::string file = hierarchy.mount + JoinPath({"/", path, "cgroup.procs"});
    UniqueFd join(open(file.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (join.valid()) joins->push_back(std::move(join));
    else if (errno != ENOENT) return Cannot("put the shim into the cgroup", path, errno);
  }
  if (joins->empty()) return Cannot("put the shim into the cgroup", path, ENOENT);
  return {};
}

}  // namespace thaw
