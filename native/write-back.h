// Bytes of a file on their way to the disk, a piece at a time and off the event loop.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value WriteBack(const Napi::CallbackInfo& info);

}  // namespace thaw
