// A container's terminal as runc hands it over: the console socket, the pty's master that comes through it, its size.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value ConsoleListen(const Napi::CallbackInfo& info);
Napi::Value ConsoleReceive(const Napi::CallbackInfo& info);
Napi::Value ConsoleCancel(const Napi::CallbackInfo& info);
Napi::Value SetWindowSize(const Napi::CallbackInfo& info);

}  // namespace thaw
