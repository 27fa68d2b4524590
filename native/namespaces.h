// Small files read and written as a process inside other namespaces sees them: /proc/sys shows the UTS and IPC settings
// of the calling thread's namespaces.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value ReadInNamespaces(const Napi::CallbackInfo& info);
Napi::Value WriteInNamespaces(const Napi::CallbackInfo& info);

}  // namespace thaw
