// What the launcher needs of a bundle's config.json.
#pragma once

#include <string>

#include "error.h"

namespace thaw {

struct Spec {
  std::string group;         // annotation io.containerd.runc.v2.group
  std::string sandbox;       // annotation io.kubernetes.cri.sandbox-id
  std::string cgroups_path;  // linux.cgroupsPath
};

Error ReadSpec(const std::string& bundle, Spec* spec);

}  // namespace thaw
