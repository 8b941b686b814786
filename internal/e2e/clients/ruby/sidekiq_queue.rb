# Sidekiq as a queue alone: ADDRESS QUEUE add FROM TO, or ADDRESS QUEUE work HOW-MANY. It prints what it has done, a number a
# line, each as often as it was done.
require "sidekiq"
require "sidekiq/cli"

ADDRESS, QUEUE, WHAT, *NUMBERS = ENV["QUEUE_ARGS"] ? ENV["QUEUE_ARGS"].split : ARGV
Sidekiq.logger.level = Logger::ERROR
url = { url: "redis://#{ADDRESS}/0" }
Sidekiq.configure_client { |c| c.redis = url }
Sidekiq.configure_server { |c| c.redis = url }

class Count
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(n)
    Sidekiq.redis { |r| r.hincrby("#{QUEUE}:done", n, 1) }
  end
end

return if ENV["QUEUE_ARGS"] # loaded by the worker

if WHAT == "add"
  (NUMBERS[0].to_i...NUMBERS[1].to_i).each do |n|
    Count.perform_async(n)
    puts n
  end
else
  worker = Process.spawn({ "QUEUE_ARGS" => ARGV.join(" "), "RUBYOPT" => "-W0" }, "sidekiq", "-r", File.expand_path(__FILE__),
                         "-q", QUEUE, "-c", "3", "-t", "5", out: "/dev/null")
  finish = Time.now + 60
  done = {}
  while done.size < NUMBERS[0].to_i && Time.now < finish
    done = Sidekiq.redis { |r| r.hgetall("#{QUEUE}:done") }
    sleep 0.02
  end
  Process.kill("TERM", worker)
  Process.wait(worker)
  Sidekiq.redis { |r| r.hgetall("#{QUEUE}:done") }.each { |n, times| times.to_i.times { puts n } }
end
