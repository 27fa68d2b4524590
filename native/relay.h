// Moves bytes between two descriptors in the reactor's thread: a container's stdio never passes through JavaScript.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value RelayStart(const Napi::CallbackInfo& info);
Napi::Value RelayDrain(const Napi::CallbackInfo& info);
Napi::Value RelayStop(const Napi::CallbackInfo& info);

}  // namespace thaw
