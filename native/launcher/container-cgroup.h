// The cgroups of one container, found by the path in its spec.
#pragma once

#include <string>

#include "clock.h"
#include "error.h"

namespace thaw {

struct ContainerCgroup {
  std::string path;      // below every hierarchy; empty if it is not known, or not the container's alone
  bool systemd = false;  // systemd removes it when it is empty
};

// Only a path whose last part names the container is taken for its own: that is what containerd and the kubelet give. A
// path that somebody chose may hold other containers or services, and is left to runc.
ContainerCgroup CgroupOf(const std::string& cgroups_path, const std::string& id);

// Ends every process in it and below, also frozen ones, and removes it. What is not there is done.
Error RemoveCgroup(const ContainerCgroup& cgroup, const Deadline& deadline);

}  // namespace thaw
