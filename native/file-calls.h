// Calls that change the file system, many in one go and off the event loop.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value FileCalls(const Napi::CallbackInfo& info);

}  // namespace thaw
