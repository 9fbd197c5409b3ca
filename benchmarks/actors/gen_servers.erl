%% Erlang/OTP on one scheduler: gen_servers, and a supervisor for the restarts. The process of one peer, as
%% benchmarks/actors/__main__.py is for those in Python: it writes its cases as a line of JSON; then, for every line
%% "<count> <case>", a line with operations a second, or the bytes of an idle process.
%%
%% Mailboxes have no bound, so there is no send. A restart loses the mailbox, so the next crash waits for the restart:
%% greenroom's mailbox outlives it, and its crashes stand in one queue. A supervisor looks through all its restarts of
%% the last period at every one, so no supervisor restarts more than RESTARTS times.
-module(gen_servers).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2]).
-export([start_fragile/1]).

-define(BURST, 5000).
-define(ASKERS, 100).
-define(RING, 100).
-define(FAN, 1000).
-define(DEADLINE, 5000).
-define(RESTARTS, 20).

start() ->
    logger:set_primary_config(level, none),
    spawn(fun serve/0).

serve() ->
    io:format("[\"tell\",\"ask\",\"ask of 100\",\"ask with deadline\",\"spawn\",\"ring\",\"fan\",\"restart\",\"idle\"]~n"),
    {ok, Counter} = gen_server:start(?MODULE, counter, []),
    Ring = [element(2, gen_server:start(?MODULE, link, [])) || _ <- lists:seq(1, ?RING)],
    [gen_server:cast(Link, {next, Next}) || {Link, Next} <- lists:zip(Ring, tl(Ring) ++ [hd(Ring)])],
    {ok, Collector} = gen_server:start(?MODULE, {collector, self()}, []),
    Workers = [element(2, gen_server:start(?MODULE, {worker, Collector}, [])) || _ <- lists:seq(1, ?FAN)],
    loop(#{counter => Counter, ring => hd(Ring), workers => Workers}).

loop(Stage) ->
    case io:get_line("") of
        eof ->
            halt(0);
        Line ->
            [Count, Name] = string:split(string:trim(Line), " "),
            io:format("~w~n", [float(measure(Name, list_to_integer(Count), Stage))]),
            loop(Stage)
    end.

measure("idle", Count, _) ->
    Idle = [element(2, gen_server:start(?MODULE, counter, [])) || _ <- lists:seq(1, Count)],
    Bytes = lists:sum([element(2, process_info(Pid, memory)) || Pid <- Idle]),
    [gen_server:stop(Pid) || Pid <- Idle],
    Bytes / Count;
measure("restart", Count, _) ->
    Flags = #{strategy => one_for_one, intensity => ?RESTARTS, period => 3600},
    Child = #{id => fragile, start => {?MODULE, start_fragile, [self()]}},
    Made = [supervisor:start_link(?MODULE, {supervisor, Flags, [Child]}) || _ <- lists:seq(1, Count div ?RESTARTS)],
    Fragile = [receive {alive, Pid} -> Pid end || _ <- Made],
    Rate = rate(Count, fun() -> [crash(Pid, ?RESTARTS) || Pid <- Fragile] end),
    [begin unlink(Supervisor), exit(Supervisor, kill) end || {ok, Supervisor} <- Made],
    Rate;
measure(Name, Count, Stage) ->
    erlang:garbage_collect(),
    rate(Count, fun() -> run(Name, Count, Stage) end).

rate(Count, Run) ->
    Began = erlang:monotonic_time(nanosecond),
    Run(),
    Count * 1.0e9 / (erlang:monotonic_time(nanosecond) - Began).

run("tell", Count, #{counter := Counter}) -> tell(Counter, Count);
run("ask", Count, #{counter := Counter}) -> ask(Counter, Count, infinity);
run("ask with deadline", Count, #{counter := Counter}) -> ask(Counter, Count, ?DEADLINE);
run("ask of 100", Count, #{counter := Counter}) ->
    Askers = [spawn_monitor(fun() -> ask(Counter, Count div ?ASKERS, infinity) end) || _ <- lists:seq(1, ?ASKERS)],
    [receive {'DOWN', Ref, process, _, _} -> ok end || {_, Ref} <- Askers];
run("spawn", Count, _) -> spawn_each(Count);
run("ring", Count, #{ring := First}) ->
    gen_server:cast(First, {token, Count, self()}),
    receive done -> ok end;
run("fan", Count, #{workers := Workers}) -> fan(Workers, Count).

tell(_, Count) when Count =< 0 -> ok;
tell(Counter, Count) ->
    burst(Counter, min(Count, ?BURST)),
    gen_server:call(Counter, count, infinity),
    tell(Counter, Count - ?BURST).

burst(_, 0) -> ok;
burst(Counter, Count) ->
    gen_server:cast(Counter, Count),
    burst(Counter, Count - 1).

ask(_, 0, _) -> ok;
ask(Counter, Count, Deadline) ->
    gen_server:call(Counter, count, Deadline),
    ask(Counter, Count - 1, Deadline).

spawn_each(0) -> ok;
spawn_each(Count) ->
    {ok, Pid} = gen_server:start(?MODULE, counter, []),
    gen_server:stop(Pid),
    spawn_each(Count - 1).

fan(_, Count) when Count =< 0 -> ok;
fan(Workers, Count) ->
    [gen_server:cast(Worker, 0) || Worker <- Workers],
    receive done -> ok end,
    fan(Workers, Count - ?FAN).

crash(_, 0) -> ok;
crash(Pid, Count) ->
    gen_server:cast(Pid, crash),
    receive {alive, Next} -> crash(Next, Count - 1) end.

start_fragile(Owner) -> gen_server:start_link(?MODULE, {fragile, Owner}, []).

init(counter) -> {ok, 0};
init(link) -> {ok, none};
init({collector, Owner}) -> {ok, {Owner, 0}};
init({worker, Collector}) -> {ok, {worker, Collector}};
init({fragile, Owner}) ->
    Owner ! {alive, self()},
    {ok, fragile};
init({supervisor, Flags, Children}) -> {ok, {Flags, Children}}.

handle_call(count, _From, Count) -> {reply, Count + 1, Count + 1}.

handle_cast({next, Next}, none) -> {noreply, Next};
handle_cast({token, 0, Owner}, Next) ->
    Owner ! done,
    {noreply, Next};
handle_cast({token, Hops, Owner}, Next) ->
    gen_server:cast(Next, {token, Hops - 1, Owner}),
    {noreply, Next};
handle_cast(Message, {worker, Collector} = State) ->
    gen_server:cast(Collector, Message),
    {noreply, State};
handle_cast(crash, fragile) -> {stop, crash, fragile};
handle_cast(_, {Owner, Count}) when Count + 1 =:= ?FAN ->
    Owner ! done,
    {noreply, {Owner, 0}};
handle_cast(_, {Owner, Count}) -> {noreply, {Owner, Count + 1}};
handle_cast(_, Count) -> {noreply, Count + 1}.
