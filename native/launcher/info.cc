#include "info.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "files.h"
#include "options.h"
#include "protobuf.h"
#include "spawn.h"

namespace thaw {
namespace {

constexpr char kName[] = "io.containerd.runc.thaw.v2";
// Type of `runc features`, as containerd's own shim names it.
constexpr char kFeaturesType[] = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
constexpr int kFeaturesMs = 5000;

// What comes soon: containerd writes the options at once and closes, somebody at a terminal writes nothing.
std::string ReadInput() {
  constexpr size_t kMostBytes = 16 << 20;
  std::string input;
  if (isatty(STDIN_FILENO)) return input;
  const Deadline deadline(250);
  pollfd ready{STDIN_FILENO, POLLIN, 0};
  while (input.size() < kMostBytes && poll(&ready, 1, deadline.LeftMs()) > 0) {
    char part[16384];
    const ssize_t count = read(STDIN_FILENO, part, sizeof part);
    if (count <= 0) break;
    input.append(part, static_cast<size_t>(count));
  }
  return input;
}

}  // namespace

Error Info() {
  StartInput input;
  Options options;
  // Without options that can be read it is containerd's default runtime that is asked about.
  if (ParseStartInput(ReadInput(), {}, &input)) input = {};
  if (ParseOptions(input.options, &options)) options = {};
  std::string tree, version, message;
  Command command;
  RunResult features;
  if (Error error = FindTree(&tree)) return error;
  PutBytes(1, THAW_VERSION, &version);
  PutBytes(1, kName, &message);
  PutBytes(2, version, &message);
  const std::string binary = options.binary_name.empty() ? "runc" : options.binary_name;
  const bool ran = !RuncCommand(tree, binary, {"features"}, &command) &&
                   !Run(command, Deadline(kFeaturesMs), &features) && features.status == 0;
  if (ran) {
    std::string any;
    PutBytes(1, kFeaturesType, &any);
    PutBytes(2, features.output, &any);
    PutBytes(4, any, &message);
  }
  if (const int error = WriteAll(STDOUT_FILENO, message)) return Cannot("print the answer", "", error);
  return {};
}

}  // namespace thaw
