// Package screen shows a rollout to a person: on a terminal as a picture that
// is drawn anew a few times a second, elsewhere as a line every few seconds.
package screen
