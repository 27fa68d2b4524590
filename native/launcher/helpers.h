// Programs that a shim runs for a container, and that go on when it is killed: runc, CRIU below it, hooks.
#pragma once

#include <string>

#include "clock.h"

namespace thaw {

struct HelperTraits {
  std::string root;    // runc's state directory of the namespace
  std::string id;      // of the container
  std::string bundle;  // where runc works for it, without links; empty if it is not there
  std::string work;    // and CRIU
};

// Ends them and all that they have started; false if something did not end. Not the container: that has left their tree
// once runc is done.
bool EndHelpers(const HelperTraits& traits, const Deadline& deadline);

}  // namespace thaw
