// Programs that a shim runs for a container, and that go on when it is killed: runc, and CRIU below it.
#pragma once

#include <string>

#include "clock.h"

namespace thaw {

struct HelperTraits {
  std::string root;  // runc's state directory of the namespace
  std::string id;    // of the container
  std::string work;  // where CRIU works for it, without links; may be empty
};

// Ends them and all that they have started; false if something did not end. Not the container: that has left their tree
// once runc is done.
bool EndHelpers(const HelperTraits& traits, const Deadline& deadline);

}  // namespace thaw
