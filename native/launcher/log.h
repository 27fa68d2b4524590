// Lines into the bundle's `log` fifo, which containerd copies to its own log.
#pragma once

#include <string>

namespace thaw {

// Never blocks and never fails: a line that nobody reads is lost.
void LogWarning(const std::string& bundle, const std::string& container, const std::string& message);

}  // namespace thaw
