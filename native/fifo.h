// Waiting for the one writer of a fifo.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value FifoRead(const Napi::CallbackInfo& info);

}  // namespace thaw
