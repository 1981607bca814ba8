%% Ends a node that lives on without Raft, or without a queue's part in it; drops a queue that cannot start.
%%
%% The log of the quorum queues is one process, and each queue is one more. When the disk refuses the log a few times
%% in a second, their supervisors give up one after the other, and the node stays: it listens, its health checks call
%% it well, and what has no process takes and gives no message until the node is started again. So it ends, and
%% whoever keeps it alive starts it again.
%%
%% It may leave a log with a gap, which Raft refuses to start from each time. Such a queue is dropped, if no other node
%% has it: its consumer declares it anew, and what was in it is in the event logs, from where reconciliation brings it.
%%
%% A node in maintenance has stopped its queues by intention.
spawn(fun() ->
    IsRunning = fun() ->
        Applications = (catch application:which_applications()),
        is_list(Applications) andalso lists:keymember(rabbit, 1, Applications)
            andalso (catch rabbit_maintenance:is_being_drained_local_read(node())) =/= true
    end,
    Expected = fun() ->
        Queues = case (catch rabbit_amqqueue:list_local_quorum_queues()) of
            Found when is_list(Found) -> Found;
            _ -> []
        end,
        [{ra_log_wal, none} | [{element(1, amqqueue:get_pid(Queue)), Queue} || Queue <- Queues]]
    end,
    Drop = fun({Name, Queue}) ->
        case maps:get(nodes, amqqueue:get_type_state(Queue)) of
            [Only] when Only =:= node() ->
                io:format("~p does not start, and so is dropped.~n", [Name]),
                catch rabbit_amqqueue:delete(Queue, false, false, <<"watch-raft">>);
            _ -> io:format("~p does not start; other nodes have it, too.~n", [Name])
        end
    end,
    Watch = fun Watch(Alive, Missed) ->
        timer:sleep(5000),
        Parts = case IsRunning() of
            true -> Expected();
            false -> []
        end,
        {Here, Missing} = lists:partition(fun({Name, _}) -> whereis(Name) =/= undefined end, Parts),
        Seen = lists:usort(Alive ++ [Name || {Name, _} <- Here]),
        Times = maps:from_list([{Name, maps:get(Name, Missed, 0) + 1} || {Name, _} <- Missing]),
        Gone = [Part || {Name, _} = Part <- Missing, maps:get(Name, Times) rem 3 =:= 0],
        case [Name || {Name, _} <- Gone, lists:member(Name, [ra_log_wal | Seen])] of
            [] -> lists:foreach(Drop, Gone);
            Lost ->
                io:format("Raft has given up on ~p, and so this node ends.~n", [Lost]),
                erlang:halt(1)
        end,
        Watch(Seen, Times)
    end,
    Watch([], #{})
end).
