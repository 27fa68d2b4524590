/** pino, in a file of its own: log.ts loads it when there is something to say. */
export { pino } from 'pino';
