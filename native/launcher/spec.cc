#include "spec.h"

#include "files.h"
#include "json.h"

namespace thaw {

Error ReadSpec(const std::string& bundle, Spec* spec) {
  constexpr size_t kMostBytes = 256 << 20;
  const std::string path = JoinPath({bundle, "config.json"});
  std::string text;
  if (const int error = ReadFile(path, kMostBytes, &text)) return Cannot("read", path, error);
  const Error error = PickJson(std::move(text), {
                                                    {"annotations", "io.containerd.runc.v2.group", &spec->group, nullptr},
                                                    {"annotations", "io.kubernetes.cri.sandbox-id", &spec->sandbox, nullptr},
                                                    {"linux", "cgroupsPath", &spec->cgroups_path, nullptr},
                                                });
  if (error) return {"Cannot read " + Quoted(path) + ": " + error.text};
  return {};
}

}  // namespace thaw
