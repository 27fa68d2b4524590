#include "address.h"

#include "files.h"
#include "sha256.h"

namespace thaw {
namespace {

constexpr char kDefaultDirectory[] = "/run/containerd/s";
// sun_path has 108 bytes; containerd leaves some.
constexpr size_t kMostBytes = 106;

// Containers of one group share a server: those that an annotation puts together, else those of a pod.
const std::string& GroupOf(const Spec& spec, const std::string& id) {
  if (!spec.group.empty()) return spec.group;
  if (!spec.sandbox.empty()) return spec.sandbox;
  return id;
}

}  // namespace

Error SocketPath(const Flags& flags, const Spec& spec, const std::string& directory, std::string* path) {
  const std::string name = JoinPath({flags.address, flags.ns, GroupOf(spec, flags.id)});
  *path = JoinPath({directory.empty() ? kDefaultDirectory : directory, Sha256(name)});
  if (path->size() <= kMostBytes) return {};
  return {"Cannot listen on " + Quoted(*path) + ": the path is longer than " + std::to_string(kMostBytes) + " bytes"};
}

}  // namespace thaw
