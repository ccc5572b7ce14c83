// DLACCEL_REGISTER(name, function) puts a typed function into the table that the bindings expose.
//
// A kernel takes a Lane, which says where to run, then Views, optional Views, integers and reals.
// The argument kinds are read off its type, so that an op needs no binding code of its own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "view.h"

namespace dlaccel {

// Where a call runs: the host's thread count, or the stream of a CUDA device.
struct Lane {
  int threads = 1;
  void* stream = nullptr;
};

enum class Kind : char { tensor = 'T', optional = 'O', integer = 'i', real = 'd' };

struct Argument {
  std::optional<View> view;
  int64_t integer = 0;
  double real = 0;
};

constexpr int kMaxArguments = 16;

struct Entry {
  const char* name;
  int count;
  std::array<Kind, kMaxArguments> kinds;
  void (*call)(const Argument*, const Lane&);
  const Entry* next;
};

inline const Entry*& registry_head() {
  static const Entry* head = nullptr;
  return head;
}

namespace detail {

template <class Parameter>
constexpr Kind kind_of() {
  using T = std::remove_cvref_t<Parameter>;
  if constexpr (std::is_same_v<T, View>) return Kind::tensor;
  else if constexpr (std::is_same_v<T, std::optional<View>>) return Kind::optional;
  else if constexpr (std::is_same_v<T, int64_t>) return Kind::integer;
  else {
    static_assert(std::is_same_v<T, double>,
                  "a kernel takes View, optional<View>, int64_t, double");
    return Kind::real;
  }
}

template <class Parameter>
Parameter unpack(const Argument& argument) {
  using T = std::remove_cvref_t<Parameter>;
  if constexpr (std::is_same_v<T, View>) return *argument.view;
  else if constexpr (std::is_same_v<T, std::optional<View>>) return argument.view;
  else if constexpr (std::is_same_v<T, int64_t>) return argument.integer;
  else return argument.real;
}

template <auto Function>
struct Signature;

template <class... Args, void (*Function)(Lane, Args...)>
struct Signature<Function> {
  static_assert(sizeof...(Args) <= kMaxArguments);
  static constexpr int count = sizeof...(Args);
  static constexpr std::array<Kind, kMaxArguments> kinds = {kind_of<Args>()...};

  static void call(const Argument* arguments, const Lane& lane) {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      Function(lane, unpack<Args>(arguments[i])...);
    }(std::index_sequence_for<Args...>{});
  }
};

}  // namespace detail

struct Registration {
  Entry entry;
  Registration(const char* name, int count, const std::array<Kind, kMaxArguments>& kinds,
               void (*call)(const Argument*, const Lane&))
      : entry{name, count, kinds, call, registry_head()} {
    registry_head() = &entry;
  }
};

}  // namespace dlaccel

#define DLACCEL_REGISTER(name, function)                     \
  static const ::dlaccel::Registration registration_##name { \
    #name, ::dlaccel::detail::Signature<&function>::count,   \
        ::dlaccel::detail::Signature<&function>::kinds,      \
        &::dlaccel::detail::Signature<&function>::call       \
  }
