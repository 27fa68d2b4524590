// Checking, decoding and writing checkpoint chunks.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value WriteChunk(const Napi::CallbackInfo& info);
Napi::Value WriteChunkHere(const Napi::CallbackInfo& info);
Napi::Value Crc32(const Napi::CallbackInfo& info);
Napi::Value DecodeLz4(const Napi::CallbackInfo& info);

}  // namespace thaw
