#pragma once

#include <functional>
#include <memory>
#include <string>

namespace boost::asio {
class io_context;
}

namespace espalier {

// Asks Slurm when a job ends, at once and every five minutes: an operator may have moved it.
class TimeLimitWatch {
 public:
  using Told = std::function<void(double seconds_left)>;

  TimeLimitWatch(boost::asio::io_context& context, std::string job_id, Told told);
  ~TimeLimitWatch();
  void start();

 private:
  struct State;
  static void ask(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace espalier
