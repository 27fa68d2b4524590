#include "library.h"

namespace thaw {
namespace {

#if defined(__aarch64__)
#define THAW_TRIPLET "aarch64-linux-gnu"
#else
#define THAW_TRIPLET "x86_64-linux-gnu"
#endif

// The loader's own search, Debian, Fedora, container images that are nodes, the GPU operator's driver container, GKE.
constexpr const char* kPlaces[] = {
    "",
    "/usr/lib/" THAW_TRIPLET "/",
    "/usr/lib64/",
    "/usr/local/nvidia/lib64/",
    "/run/nvidia/driver/usr/lib/" THAW_TRIPLET "/",
    "/run/nvidia/driver/usr/lib64/",
    "/home/kubernetes/bin/nvidia/lib64/",
};

}  // namespace

std::string Library::Open(const std::string& path, const char* name) {
  std::string first;
  const auto attempt = [&](const std::string& place) {
    handle_ = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) path_ = place;
    else if (first.empty()) first = dlerror();
    return handle_ != nullptr;
  };
  if (!path.empty()) return attempt(path) ? "" : first;
  for (const char* const place : kPlaces)
    if (attempt(std::string(place) + name)) return "";
  return first;
}

}  // namespace thaw
