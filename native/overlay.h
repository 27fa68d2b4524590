// Overlay mounts through the mount API of 5.2 (fsopen), or mount(2) where the kernel's overlayfs is older than that.
#pragma once

#include <string>
#include <vector>

#include "errors.h"

namespace thaw {

struct OverlayRequest {
  std::string target;
  std::vector<std::string> lower;  // topmost first
  std::string upper, work;         // both empty: read-only
  std::vector<std::string> options;
};

Failure MountOverlay(const OverlayRequest& request);

}  // namespace thaw
