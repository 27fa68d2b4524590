// Cgroup hierarchies of this machine: v1, v2, or both.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "../fd.h"
#include "error.h"

namespace thaw {

struct Hierarchy {
  std::string mount;
  bool unified;  // v2
};

// From the text of /proc/self/mountinfo.
std::vector<Hierarchy> Hierarchies(std::string_view mountinfo);

// Opens what a process writes "0" to in order to join `path`: on v1 in every hierarchy that has it, on v2 in the one
// there is. None having it is an error.
Error OpenCgroup(const std::string& path, std::vector<UniqueFd>* joins);

}  // namespace thaw
