// A thread block on the host. Threads run one at a time, each until it waits for others, in an
// order drawn from a seed: a result that hangs on a missing barrier changes with the seed. Only
// threads that wait keep a fiber, so kernels without barriers run at the speed of plain loops.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"

namespace dlaccel::host_cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr unsigned count() const { return x * y * z; }
};

constexpr unsigned kLanes = 32;

class Block {
 public:
  enum class Wait : char { nothing, block, warp };

  struct Thread {
    Dim3 index;
    unsigned number = 0;  // in the block; number / 32 is the warp
    Wait wait = Wait::nothing;
    bool done = false;
    uint32_t mask = 0;        // lanes that a warp's collective names
    uint64_t given = 0;       // what this lane brings to it
    uint64_t seen[kLanes]{};  // what every named lane brought
    Fiber* fiber = nullptr;
  };

  Block(uint64_t seed, Dim3 grid, Dim3 shape, std::function<void()> kernel)
      : grid(grid), shape(shape), kernel_(std::move(kernel)), random_(seed), poison_(seed) {}

  const Dim3 grid, shape;
  Dim3 place;  // blockIdx

  Thread& thread() { return *current_; }

  void run(Dim3 at) {
    place = at;
    threads_.assign(shape.count(), {});
    std::vector<Thread*> order;
    for (unsigned i = 0; i < threads_.size(); ++i) {
      threads_[i].number = i;
      threads_[i].index = Dim3(i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y);
      order.push_back(&threads_[i]);
    }
    shared_.clear();
    shuffle(order);
    waiting_ = order;  // the unstarted, from the back on
    while (!waiting_.empty()) enter_next();
    for (auto ready = released(); !ready.empty(); ready = released()) {
      shuffle(ready);
      for (Thread* thread : ready) thread->wait = Wait::nothing;
      for (Thread* thread : ready) resume(*thread);
    }
  }

  // Called by the running thread: stops it until the others have come.
  void sync_threads() { stop(Wait::block); }
  const uint64_t* exchange(uint32_t mask, uint64_t given) {
    Thread& thread = *current_;
    if (!(mask >> thread.number % kLanes & 1))
      throw std::logic_error("a lane calls a warp's collective whose mask leaves it out.");
    thread.mask = mask;
    thread.given = given;
    stop(Wait::warp);
    return thread.seen;
  }

  // One object for each key, made when a block first names it, on the heap, so that
  // AddressSanitizer guards its edges. It starts as NaN or as large numbers, by the seed.
  void* shared(const void* key, size_t bytes) {
    auto& memory = shared_[key];
    if (!memory) {
      memory.reset(static_cast<char*>(::operator new[](bytes, kAlignment)));
      memset(memory.get(), poison_ % 2 ? 0x7b : 0xff, bytes);
    }
    return memory.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{128};
  struct Free {
    void operator()(char* memory) const { ::operator delete[](memory, kAlignment); }
  };

  void shuffle(std::vector<Thread*>& threads) {
    std::shuffle(threads.begin(), threads.end(), random_);
  }

  void enter_next() {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>([this] { start_threads(); }));
      idle_.push_back(fibers_.back().get());
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    resume(*fiber);
  }

  void start_threads() {  // in a fiber: threads one after another, until one waits
    while (!waiting_.empty()) {
      current_ = waiting_.back();
      waiting_.pop_back();
      try {
        kernel_();
      } catch (...) {
        error_ = std::current_exception();
        waiting_.clear();
      }
      current_->done = true;
    }
  }

  void stop(Wait wait) {
    Thread& thread = *current_;
    thread.wait = wait;
    thread.fiber = running_;
    running_->suspend();
  }

  void resume(Thread& thread) {
    current_ = &thread;
    resume(*thread.fiber);
  }
  void resume(Fiber& fiber) {
    running_ = &fiber;
    fiber.resume();
    if (fiber.finished()) idle_.push_back(&fiber);
    if (error_) std::rethrow_exception(error_);
  }

  // The threads whose wait is over; none when all have left the kernel.
  std::vector<Thread*> released() {
    std::vector<Thread*> ready;
    for (unsigned first = 0; first < threads_.size(); first += kLanes) {
      for (unsigned i = first; i < std::min<size_t>(first + kLanes, threads_.size()); ++i)
        if (complete(threads_[i], first)) ready.push_back(&threads_[i]);
    }
    for (Thread* thread : ready) {
      const unsigned first = thread->number / kLanes * kLanes;
      for (unsigned lane = 0; lane < kLanes && first + lane < threads_.size(); ++lane)
        thread->seen[lane] = threads_[first + lane].given;
    }
    if (!ready.empty()) return ready;
    for (Thread& thread : threads_)
      if (thread.wait == Wait::block) ready.push_back(&thread);
    const auto done = size_t(std::count_if(threads_.begin(), threads_.end(),
                                           [](const Thread& thread) { return thread.done; }));
    if (ready.size() == threads_.size() || done == threads_.size()) return ready;
    throw std::logic_error(std::to_string(ready.size()) + " threads wait at __syncthreads, " +
                           std::to_string(done) + " have left the kernel and " +
                           std::to_string(threads_.size() - ready.size() - done) +
                           " wait for lanes of their warp that never come.");
  }

  bool complete(const Thread& thread, unsigned first) const {
    if (thread.wait != Wait::warp) return false;
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      if (!(thread.mask >> lane & 1)) continue;
      if (first + lane >= threads_.size()) return false;
      const Thread& other = threads_[first + lane];
      if (other.wait != Wait::warp || other.mask != thread.mask) return false;
    }
    return true;
  }

  std::function<void()> kernel_;
  std::mt19937_64 random_;
  uint64_t poison_;
  std::vector<Thread> threads_;
  std::vector<Thread*> waiting_;
  std::map<const void*, std::unique_ptr<char[], Free>> shared_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Thread* current_ = nullptr;
  Fiber* running_ = nullptr;
  std::exception_ptr error_;
};

inline Block*& current_block() {
  static Block* block = nullptr;
  return block;
}

// All blocks of a grid, in an order drawn from the seed; one launch at a time.
template <class Kernel>
void run(uint64_t seed, Dim3 grid, Dim3 shape, Kernel kernel) {
  static std::mutex one;
  const std::lock_guard lock(one);
  const auto inside = [](Dim3 d, unsigned x, unsigned y, unsigned z) {
    return d.x && d.y && d.z && d.x <= x && d.y <= y && d.z <= z;
  };
  if (!inside(grid, 0x7fffffff, 65535, 65535) || !inside(shape, 1024, 1024, 64) ||
      shape.count() > 1024)
    throw std::logic_error("a launch passes the limits of CUDA's grids and blocks.");
  Block block(seed, grid, shape, kernel);
  current_block() = &block;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  // A step that shares no divisor with the number of blocks visits each once.
  uint64_t step = seed % blocks + 1;
  while (std::gcd(step, blocks) != 1) ++step;
  for (uint64_t i = 0, at = 0; i < blocks; ++i, at = (at + step) % blocks)
    block.run(Dim3(unsigned(at % grid.x), unsigned(at / grid.x % grid.y),
                   unsigned(at / grid.x / grid.y)));
}

template <class T, int which>
T& shared_memory() {
  static char key;
  return *static_cast<T*>(current_block()->shared(&key, sizeof(T)));
}

}  // namespace dlaccel::host_cuda
