%% Ends a node that lives on without Raft, or without a queue's part in it.
%%
%% The log of the quorum queues is one process, and each queue is one more. When the disk refuses the log a few times
%% in a second, their supervisors give up one after the other, and the node stays: it listens, its health checks call
%% it well, and what has no process takes and gives no message until the node is started again. So it ends, and
%% whoever keeps it alive starts it again.
%%
%% A node in maintenance has stopped its queues by intention.
spawn(fun() ->
    IsRunning = fun() ->
        Applications = (catch application:which_applications()),
        is_list(Applications) andalso lists:keymember(rabbit, 1, Applications)
            andalso (catch rabbit_maintenance:is_being_drained_local_read(node())) =/= true
    end,
    Missing = fun() ->
        Queues = case (catch rabbit_amqqueue:list_local_quorum_queues()) of
            Found when is_list(Found) -> [element(1, amqqueue:get_pid(Queue)) || Queue <- Found];
            _ -> []
        end,
        [Name || Name <- [ra_log_wal | Queues], whereis(Name) =:= undefined]
    end,
    Watch = fun Watch(Before, Times) ->
        timer:sleep(5000),
        Still = case IsRunning() of
            true when Times =:= 0 -> Missing();
            true -> [Name || Name <- Missing(), lists:member(Name, Before)];
            false -> []
        end,
        case {Still, Times} of
            {[], _} -> Watch([], 0);
            {_, 2} ->
                io:format("Raft has given up on ~p, and so this node ends.~n", [Still]),
                erlang:halt(1);
            _ -> Watch(Still, Times + 1)
        end
    end,
    Watch([], 0)
end).
