// Whole files, and paths as text. Functions that return int give 0 or an errno.
#pragma once

#include <stddef.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "error.h"

namespace thaw {

// Joins what is not empty with "/" and cleans the result, as Go's path.Join: no "//", no ".", ".." resolved as text.
std::string JoinPath(std::initializer_list<std::string_view> parts);

// The part before the last "/"; "/" and "." where there is none.
std::string ParentPath(std::string_view path);

// Without links; empty if there is nothing.
std::string RealPath(const std::string& path);

// EFBIG: it has more than `limit` bytes.
int ReadAll(int fd, size_t limit, std::string* content);
int ReadFile(const std::string& path, size_t limit, std::string* content);
int WriteAll(int fd, std::string_view content);

// The file is there with all of its content or as it was before, also after a crash. Mode 0600.
Error ReplaceFile(const std::string& directory, const std::string& name, std::string_view content);

// Also parents that are missing.
Error MakeDirectories(const std::string& path, unsigned mode);

// Removes a directory with everything in it, on its own file system and without following a link.
Error RemoveTree(const std::string& path);

bool IsDirectory(const std::string& path);

}  // namespace thaw
