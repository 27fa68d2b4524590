// The stack of a child that shares our memory.
#pragma once

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace thaw {

class ChildStack {
 public:
  // Safe: private memory of our own, unmapped with this object, by when the child must have let go of it.
  explicit ChildStack(size_t size)
      : size_(size),
        at_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
  ChildStack(const ChildStack&) = delete;
  ChildStack& operator=(const ChildStack&) = delete;
  ~ChildStack() {
    if (!valid()) return;
#if defined(__SANITIZE_ADDRESS__)
    // The child's functions never return, so what they said of their variables would stand for whatever is mapped here next.
    __asan_unpoison_memory_region(at_, size_);
#endif
    munmap(at_, size_);
  }

  bool valid() const { return at_ != MAP_FAILED; }
  // What clone(2) wants: it grows downwards from there.
  void* top() const { return static_cast<char*>(at_) + size_; }

 private:
  const size_t size_;
  void* const at_;
};

}  // namespace thaw
