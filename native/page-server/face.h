// The page server's functions of the addon.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value PageServerStart(const Napi::CallbackInfo& info);
Napi::Value PageServerGuard(const Napi::CallbackInfo& info);
Napi::Value PageServerProcess(const Napi::CallbackInfo& info);
Napi::Value PageServerPresent(const Napi::CallbackInfo& info);
Napi::Value PageServerDrain(const Napi::CallbackInfo& info);
Napi::Value PageServerFinish(const Napi::CallbackInfo& info);
Napi::Value PageServerStats(const Napi::CallbackInfo& info);
Napi::Value MessageSockets(const Napi::CallbackInfo& info);

}  // namespace thaw
