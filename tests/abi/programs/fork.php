<?php
// A client and pcntl_fork: the child is refused, and may open one of its own; its end leaves the parent's connections alone.
require getenv('EWSNOTIFY_WRAPPER');
use Ewsnotify\{Client, Failure};

$options = json_decode($argv[1], true);
$connected = function (Client $client): void {
    do {
        $event = $client->next(30000);
    } while ($event['type'] !== 'Connected');
};
$client = Client::open($options);
$client->watch();
$connected($client);
for ($round = 0; $round < 10; ++$round) {
    $child = pcntl_fork();
    if ($child === 0) {
        foreach ([fn () => $client->next(0), fn () => $client->status(), fn () => $client->close(), fn () => $client->fd()] as $call) {
            try {
                $call();
                fwrite(STDERR, "a call in the child was not refused\n");
                exit(1);
            } catch (Failure $e) {
                if ($e->status !== -12) {
                    throw $e;
                }
            }
        }
        $own = Client::open($options);
        $own->watch();
        $connected($own);
        $own->close();
        // The destructors run: of the child's own, and of its copy of the parent's.
        exit(0);
    }
    pcntl_waitpid($child, $status);
    if ($status !== 0) {
        fwrite(STDERR, "the child ended with $status\n");
        exit(1);
    }
}
echo "{\"type\":\"ready\"}\n";
do {
    $event = $client->next(60000);
} while ($event['type'] !== 'NewMail');
echo json_encode($event), "\n";
