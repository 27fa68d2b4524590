// `-info`: what this runtime is and can do, for containerd 1.7 and later.
#pragma once

#include "error.h"

namespace thaw {

Error Info();

}  // namespace thaw
