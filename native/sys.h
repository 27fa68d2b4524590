// Single system calls that Node does not offer.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value SetChildSubreaper(const Napi::CallbackInfo& info);
Napi::Value Children(const Napi::CallbackInfo& info);
Napi::Value Pipe(const Napi::CallbackInfo& info);
Napi::Value Duplicate(const Napi::CallbackInfo& info);
Napi::Value Fchown(const Napi::CallbackInfo& info);
Napi::Value PeerCredentials(const Napi::CallbackInfo& info);
Napi::Value TryLock(const Napi::CallbackInfo& info);
Napi::Value Realtime(const Napi::CallbackInfo& info);
Napi::Value TrimMemory(const Napi::CallbackInfo& info);
Napi::Value Syncfs(const Napi::CallbackInfo& info);

}  // namespace thaw
