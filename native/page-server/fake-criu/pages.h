// The pages files of a layout: pages-PID.img, without any header, as CRIU's.
#pragma once

#include "layout.h"

namespace thaw {

void WritePagesFiles(const Layout& layout, const char* folder);

std::string PagesFileOf(const std::string& folder, uint32_t pid);

}  // namespace thaw
