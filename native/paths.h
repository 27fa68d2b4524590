// Opening names that come from untrusted input.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value OpenBeneath(const Napi::CallbackInfo& info);

}  // namespace thaw
