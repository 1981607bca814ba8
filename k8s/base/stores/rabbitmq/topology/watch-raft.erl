%% Ends a node that lives on without Raft.
%%
%% The log of the quorum queues is one process. When the disk refuses it a few times in a second, its supervisors
%% give up one after the other, and the node stays: it listens, its health checks call it well, and no queue
%% takes or gives a message until it is started again. So it ends, and whoever keeps it alive starts it again.
spawn(fun() ->
    Watch = fun Watch(Missed) ->
        timer:sleep(5000),
        Applications = (catch application:which_applications()),
        IsRunning = is_list(Applications) andalso lists:keymember(rabbit, 1, Applications),
        case IsRunning andalso whereis(ra_log_wal) =:= undefined of
            false -> Watch(0);
            true when Missed < 2 -> Watch(Missed + 1);
            true ->
                io:format("Raft has given up, and so this node ends.~n"),
                erlang:halt(1)
        end
    end,
    Watch(0)
end).
