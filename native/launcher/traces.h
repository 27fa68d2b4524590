// What CRIU leaves outside a container when a restore is cut off.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "clock.h"
#include "error.h"

namespace thaw {

// CRIU's mkdtemp names in its own log, so that nobody else's are touched.
std::vector<std::string> CriuFolders(std::string_view log);

// Unmounts and removes those that the log in the work directory names.
Error RemoveCriuFolders(const std::string& work, const Deadline& deadline);

}  // namespace thaw
