// A server's end of an HTTP/2 connection, which nghttp2 speaks. No I/O: bytes go in and out. native/index.ts documents it.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value Http2Open(const Napi::CallbackInfo& info);
Napi::Value Http2Receive(const Napi::CallbackInfo& info);
Napi::Value Http2Answer(const Napi::CallbackInfo& info);
Napi::Value Http2Queued(const Napi::CallbackInfo& info);
Napi::Value Http2Take(const Napi::CallbackInfo& info);
Napi::Value Http2Streams(const Napi::CallbackInfo& info);
Napi::Value Http2Shutdown(const Napi::CallbackInfo& info);

}  // namespace thaw
