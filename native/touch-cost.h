// What it costs a process to touch memory that it has.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value TouchCost(const Napi::CallbackInfo& info);

}  // namespace thaw
