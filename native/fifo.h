// Fifos, and waiting for the one writer of one.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value MakeFifo(const Napi::CallbackInfo& info);
Napi::Value FifoRead(const Napi::CallbackInfo& info);

}  // namespace thaw
