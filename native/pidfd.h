// Process descriptors: signals and exits without pid reuse, and without taking children that libuv waits for.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value PidfdOpen(const Napi::CallbackInfo& info);
Napi::Value PidfdSendSignal(const Napi::CallbackInfo& info);
Napi::Value PidfdWait(const Napi::CallbackInfo& info);
Napi::Value ReapZombie(const Napi::CallbackInfo& info);

}  // namespace thaw
