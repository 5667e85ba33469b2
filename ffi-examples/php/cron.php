<?php

/**
 * A bounded run, for cron: tells what came since the last one and what comes meanwhile, then ends. At most one runs at a time.
 *
 *     php cron.php OPTIONS-AS-JSON SECONDS
 *
 * The options need a state_dir. Ends with 0; with 3, at once, where another run is still at it; with 5 where a mailbox was given up.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

$options = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR) + ['ack' => 'manual'];
$until = hrtime(true) + (int) $argv[2] * 1_000_000_000;
$given_up = false;

try {
    $client = Ewsnotify\Client::open($options);
} catch (Ewsnotify\Failure $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit($e->status === Ewsnotify\Client::E_LOCKED ? 3 : 1);
}
$client->watch();
while (($left = intdiv($until - hrtime(true), 1_000_000)) > 0) {
    $event = $client->next($left);
    if ($event === false) {
        break;
    }
    if ($event === null) {
        continue;
    }
    fwrite(STDOUT, json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
    $given_up = $given_up || ($event['type'] === 'Closed' && isset($event['watch']));
    if (isset($event['item_id'])) {
        $client->ack($event);
    }
}
$client->close();
exit($given_up ? 5 : 0);
