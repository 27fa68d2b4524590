// Mounts of this namespace, and how to take them away.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "clock.h"
#include "error.h"

namespace thaw {

struct MountPoint {
  std::string path;
  std::string type;
};

// Source: proc_pid_mountinfo(5): field 5 is the mount point, the type comes after " - ". In order of mounting.
std::vector<MountPoint> ParseMountinfo(std::string_view mountinfo);

// Empty if it cannot be read.
std::string ReadMountinfo();

// True if nothing is mounted at `path` itself (any more).
bool UnmountTop(const std::string& path);

// Unmounts everything at and below `path`, innermost first. What stays busy until the deadline is detached.
Error UnmountAll(const std::string& path, const Deadline& deadline);

}  // namespace thaw
