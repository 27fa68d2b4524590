// What a thread does inside other namespaces: small files read and written as a process there sees them (/proc/sys shows the
// UTS and IPC settings of the calling thread's namespaces), connections made there; and a network of no process.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value ReadInNamespaces(const Napi::CallbackInfo& info);
Napi::Value WriteInNamespaces(const Napi::CallbackInfo& info);
Napi::Value NetworkNamespace(const Napi::CallbackInfo& info);
Napi::Value LoopbackUp(const Napi::CallbackInfo& info);
Napi::Value ConnectInNamespace(const Napi::CallbackInfo& info);

}  // namespace thaw
