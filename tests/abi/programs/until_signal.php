<?php
// Waits for a minute; a signal ends it at once.
require getenv('EWSNOTIFY_WRAPPER');
$stopped = false;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, function () use (&$stopped): void {
        $stopped = true;
    });
}
$client = Ewsnotify\Client::open();
echo "{\"type\":\"waiting\"}\n";
$event = $client->next(60000);
exit($stopped && $event === null ? 7 : 1);
