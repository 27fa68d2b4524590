// The functions of the addon for lazy base layers.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value LayerServerOpen(const Napi::CallbackInfo& info);
Napi::Value LayerServerStart(const Napi::CallbackInfo& info);
Napi::Value LayerServerAdd(const Napi::CallbackInfo& info);
Napi::Value LayerServerRemove(const Napi::CallbackInfo& info);
Napi::Value LayerServerPresent(const Napi::CallbackInfo& info);
Napi::Value LayerServerReads(const Napi::CallbackInfo& info);
Napi::Value LayerServerAnswer(const Napi::CallbackInfo& info);
Napi::Value LayerServerResend(const Napi::CallbackInfo& info);
Napi::Value LayerServerStop(const Napi::CallbackInfo& info);
Napi::Value TakeDescriptor(const Napi::CallbackInfo& info);

}  // namespace thaw
