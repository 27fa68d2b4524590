// Huge pages for memory of another process.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value Collapse(const Napi::CallbackInfo& info);

}  // namespace thaw
