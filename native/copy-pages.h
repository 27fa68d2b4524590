// Pages of a file, written to other places by several threads.
#pragma once

#include <napi.h>

namespace thaw {

Napi::Value CopyPages(const Napi::CallbackInfo& info);

}  // namespace thaw
