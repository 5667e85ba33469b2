<?php

/**
 * A bounded run, for cron: tells what came since the last one and what comes meanwhile, then ends. At most one runs at a time.
 *
 *     EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "...", "state_dir": "state"}' php cron.php 50
 *
 * The number is for how many seconds; the options need a state_dir. Ends with 0; with 3, at once, where another run is still at it; with 4
 * where the sign-in is refused; with 5 where a mailbox was given up, or something is left for the next run.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

const RETRY = 60_000;

$json = getenv('EWSNOTIFY_OPTIONS');
if ($json === false) {
    fwrite(STDERR, "EWSNOTIFY_OPTIONS is not set: it has the options, as JSON\n");
    exit(2);
}
$options = json_decode($json, true, 512, JSON_THROW_ON_ERROR);
$options['drain_seconds'] = (int) $argv[1];
$code = 0;

try {
    $client = Ewsnotify\Client::open($options);
} catch (Ewsnotify\Failure $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit($e->status === Ewsnotify\Client::E_LOCKED ? 3 : 1);
}
// An event counts as dealt with when it is acknowledged.
$client->watch(['ack' => 'manual']);
// The client closes by itself when the time is over.
while (($event = $client->next(-1)) !== false) {
    if ($event === null) {
        continue;
    }
    fwrite(STDOUT, json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
    $reason = $event['reason'] ?? '';
    if (($event['content'] ?? '') === 'unavailable') {
        // The server or the disk is in trouble: told again later, and its message is asked for anew.
        $client->retry($event, RETRY);
        $code = 5;
    } elseif (isset($event['item_id'])) {
        $client->ack($event);
    } elseif ($event['type'] === 'Closed' && isset($event['watch']) && $reason !== 'closed-by-host') {
        // The only watch was given up; an Error before it said why. Nothing more would come.
        $code = $reason === 'sign-in-refused' ? 4 : 5;
        $client->close();
    }
}
exit($code);
