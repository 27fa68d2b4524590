// Loop devices: a file as a block device.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value LoopAttach(const Napi::CallbackInfo& info);

}  // namespace thaw
