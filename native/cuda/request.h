// One line of a request, and of its answer. Fields are separated by tabs; numbers are decimal, GPUs 32 hexadecimal digits.
//
//   ID state PID              ID ok STATE       0 running, 1 locked, 2 checkpointed, 3 failed
//   ID thread PID             ID ok TID         of the restore thread
//   ID lock PID MILLISECONDS  ID ok
//   ID checkpoint PID         ID ok
//   ID restore PID [OLD=NEW…] ID ok
//   ID unlock PID             ID ok
//   ID device PID NAME MAJOR MINOR  ID ok         device-node.h
//   ID gpus                   ID ok DRIVER [UUID MINOR BYTES MIG PERSISTENCE VGPU NAME]…
//   ID use                    ID ok [UUID PID BYTES]…
//
//   what went wrong:          ID error CURESULT NAME      or      ID problem TEXT
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "driver.h"

namespace thaw {

std::vector<std::string> Fields(std::string_view line);

// The answer to a request, without the line's end. May take as long as the driver takes.
std::string Answer(const std::vector<std::string>& request, const Driver& driver, const std::string& management);

}  // namespace thaw
