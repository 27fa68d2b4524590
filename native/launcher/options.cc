#include "options.h"

#include "files.h"
#include "protobuf.h"
#include "toml.h"

namespace thaw {
namespace {

constexpr char kRuncOptions[] = "containerd.runc.v1.Options";
constexpr char kRuntimeOptions[] = "runtimeoptions.v1.Options";

// google.protobuf.Any. Type names come bare or behind a host ("type.googleapis.com/").
bool ParseAny(std::string_view message, Any* any) {
  *any = {};
  ProtoReader reader(message);
  while (reader.Next()) {
    if (reader.Bytes(1)) any->type = reader.bytes().substr(reader.bytes().rfind('/') + 1);
    if (reader.Bytes(2)) any->value = reader.bytes();
  }
  return reader.ok();
}

// containerd.runtime.bootstrap.v1.BootstrapParams: instance_id 1, namespace 2, extensions 8 {value 1}, socket_dir 9.
bool ParseBootstrap(std::string_view message, const Flags& flags, StartInput* result) {
  *result = {};
  std::string_view id, ns;
  ProtoReader reader(message);
  while (reader.Next()) {
    if (reader.Bytes(1)) id = reader.bytes();
    if (reader.Bytes(2)) ns = reader.bytes();
    if (reader.Bytes(9)) result->socket_dir = reader.bytes();
    if (!reader.Bytes(8)) continue;
    ProtoReader extension(reader.bytes());
    while (extension.Next()) {
      Any any;
      if (!extension.Bytes(1)) continue;
      if (!ParseAny(extension.bytes(), &any)) return false;
      if (result->options.type.empty() && (any.type == kRuncOptions || any.type == kRuntimeOptions))
        result->options = any;
    }
    if (!extension.ok()) return false;
  }
  // An Any reads as BootstrapParams too; the names tell them apart, as in containerd's own shim.
  return reader.ok() && id == flags.id && ns == flags.ns;
}

Error Broken(const char* type) { return {std::string("Cannot decode the options on standard input: broken ") + type}; }

Error ParseRuntimeOptions(std::string_view message, Options* options) {
  std::string path, body;
  ProtoReader reader(message);
  while (reader.Next()) {
    if (reader.Bytes(2)) path = reader.bytes();
    if (reader.Bytes(3)) body = reader.bytes();
  }
  if (!reader.ok()) return Broken(kRuntimeOptions);
  if (body.empty() && !path.empty()) {
    constexpr size_t kMostBytes = 1 << 20;
    if (const int error = ReadFile(path, kMostBytes, &body)) return Cannot("read the runtime options", path, error);
  }
  const Error error =
      PickToml(body, {{"BinaryName", &options->binary_name}, {"ShimCgroup", &options->shim_cgroup}});
  if (error) return {"Cannot read the runtime options (TOML): " + error.text};
  return {};
}

}  // namespace

Error ParseStartInput(std::string_view input, const Flags& flags, StartInput* result) {
  if (ParseBootstrap(input, flags, result)) return {};
  *result = {};
  if (ParseAny(input, &result->options)) return {};
  return {"Cannot decode the options on standard input"};
}

Error ParseOptions(const Any& any, Options* options) {
  *options = {};
  if (any.type == kRuntimeOptions) return ParseRuntimeOptions(any.value, options);
  if (any.type != kRuncOptions) return {};
  ProtoReader reader(any.value);
  while (reader.Next()) {
    if (reader.Bytes(3)) options->shim_cgroup = reader.bytes();
    if (reader.Bytes(6)) options->binary_name = reader.bytes();
  }
  return reader.ok() ? Error() : Broken(kRuncOptions);
}

}  // namespace thaw
