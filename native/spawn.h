// Starting programs, with a pidfd from the start.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value Spawn(const Napi::CallbackInfo& info);
Napi::Value SignalGroup(const Napi::CallbackInfo& info);
Napi::Value MemoryFile(const Napi::CallbackInfo& info);

}  // namespace thaw
