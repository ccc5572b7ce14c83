// A stack of its own for code that stops in the middle, with AddressSanitizer told of each switch.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace dlaccel::host_cuda {

// Runs `work` each time it is resumed after having finished; suspend() inside stops it halfway.
class Fiber {
 public:
  explicit Fiber(std::function<void()> work)
      : work_(std::move(work)), stack_(new char[kStackBytes]) {
    getcontext(&own_);
    own_.uc_stack.ss_sp = stack_.get();
    own_.uc_stack.ss_size = kStackBytes;
    own_.uc_link = nullptr;
    makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::enter), 0);
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume() {
    running() = this;
    finished_ = false;
    leave(&caller_fake_, stack_.get(), kStackBytes);
    swapcontext(&caller_, &own_);
    arrive(caller_fake_, nullptr, nullptr);
  }
  void suspend() {
    leave(&own_fake_, caller_stack_, caller_bytes_);
    swapcontext(&own_, &caller_);
    arrive(own_fake_, &caller_stack_, &caller_bytes_);
  }
  bool finished() const { return finished_; }

 private:
  static constexpr size_t kStackBytes = 256 << 10;

  static Fiber*& running() {
    static Fiber* fiber = nullptr;
    return fiber;
  }
  static void enter() {
    Fiber* self = running();
    arrive(nullptr, &self->caller_stack_, &self->caller_bytes_);
    for (;;) {
      self->work_();
      self->finished_ = true;
      self->suspend();
    }
  }

#if defined(__SANITIZE_ADDRESS__)
  static void leave(void** fake, const void* bottom, size_t bytes) {
    __sanitizer_start_switch_fiber(fake, bottom, bytes);
  }
  static void arrive(void* fake, const void** bottom, size_t* bytes) {
    __sanitizer_finish_switch_fiber(fake, bottom, bytes);
  }
#else
  static void leave(void**, const void*, size_t) {}
  static void arrive(void*, const void**, size_t*) {}
#endif

  std::function<void()> work_;
  std::unique_ptr<char[]> stack_;
  ucontext_t own_, caller_;
  void* own_fake_ = nullptr;
  void* caller_fake_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
  bool finished_ = true;
};

}  // namespace dlaccel::host_cuda
